"""People draw masks and correct dialogues: Labelme folders out and in, agreement, adjudication."""
