"""Models of other libraries: read and written as files, without importing those libraries."""
