//! The cv-mmap control plane over NATS.
