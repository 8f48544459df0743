"""One wire format a file: what a request, an answer and a stream event look like in it."""
