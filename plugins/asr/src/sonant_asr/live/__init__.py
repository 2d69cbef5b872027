"""`sonant transcribe --live`: words while they are spoken."""
