"""What a release stores, in every form, as a file of JSON that later releases must read, process and show."""
