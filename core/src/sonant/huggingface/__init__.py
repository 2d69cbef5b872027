"""Models as Hugging Face's transformers keeps them, read and written without it: JSON files and safetensors.

`folder` opens the files; `convert` turns them into a Sonant config and state, and back, by the tables that plugins contribute
(`sonant.mapping`). A name in the files is looked up in those tables; code that a repo may hold is never fetched or run.
"""
