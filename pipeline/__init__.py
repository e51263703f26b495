"""The assembly: rules, flags, sources, the recipe, the outputs."""
