"""How long engines take: measured in rounds, with the state of the machine beside the figures."""
