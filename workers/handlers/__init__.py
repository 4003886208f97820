"""The handlers that come with the service. They use the public interface alone, as anybody's do."""
