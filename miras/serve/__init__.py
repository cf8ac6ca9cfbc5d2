"""`miras serve`: a model behind HTTP, for OpenAI's client and for anything that can send a picture."""
