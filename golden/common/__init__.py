"""What both rooms of golden use: names, files, the console."""
