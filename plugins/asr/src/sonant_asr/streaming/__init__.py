"""Recognition of audio while it comes: sessions, pools of them, and the events they give."""
