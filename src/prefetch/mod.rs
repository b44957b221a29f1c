//! What to stage where, whether it is worth it, what it saved.
//!
//! - Decisions (pure): [`candidate`] what may be needed and how that is known, [`gate`] is it worth it,
//!   [`control`] who is left out at random, [`ledger`] what came of it, [`governor`] does it still pay,
//!   [`agenda`] all of that in order;
//!   [`flights`] which transfer goes first; [`core`] ties the two together.
//! - I/O: [`source`] where objects come from, [`transfer`] how one is fetched; `carry` from room to pool,
//!   `demand` the inputs of one attempt, `publish` its outputs, `learned` what no template names.

pub mod actor;
pub mod agenda;
pub mod candidate;
pub mod carry;
pub mod control;
pub mod core;
mod demand;
pub mod flights;
pub mod gate;
pub mod governor;
mod learned;
pub mod ledger;
mod publish;
pub mod sizes;
pub mod source;
pub mod transfer;

pub use carry::Pool;
