"""The pages that operators see, one module each, and what stands behind some of them: acts, streams, the past."""
