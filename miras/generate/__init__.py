"""Generation: the teacher that writes dialogues about pictures, and the phrases that identify regions."""
