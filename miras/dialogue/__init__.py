"""The data model all stages share: pictures, regions, dialogues, their masks and their rendering to text."""
