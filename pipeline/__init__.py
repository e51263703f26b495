"""The assembly: rules, flags, the recipe; inputs, runs and reports have packages of their own."""
