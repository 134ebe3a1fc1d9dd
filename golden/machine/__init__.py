"""What the machine is told to do: commands, registers, the memory image, and the rules between them."""
