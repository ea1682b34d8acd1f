//! the outside world behind ports: clock, store, strong engine, TLS, HTTP.
