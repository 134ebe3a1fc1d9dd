"""The units of the machine, one file each; `CATALOGUE` lists them in the order of the data flow."""
