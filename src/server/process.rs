//! What this process is to its host: how it begins, which descriptors, addresses and signals it has, and what it tells the
//! service manager and clients of itself.

pub mod bind_address;
pub mod descriptors;
pub mod replacement;
pub mod service_manager;
pub mod signals;
pub mod startup;
pub mod status;
