"""One step to a file. What a step did in a release stays as it is: later changes are steps of their own."""
