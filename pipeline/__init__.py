"""The assembly: rules, flags, the recipe; inputs, runs and reports have rooms of their own."""
