"""What the finished data set is: statistics, figures, a card for people, and exports to other forms."""
