"""The handlers that come with the service. They use the public interface only, as yours would."""
