//! One way to call a service, in process or over the network.
