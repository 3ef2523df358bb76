//! A database that a service can begin without.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{Db, DbError};

/// Is used only once it was verified: a login that could see every tenant's rows never is.
#[derive(Debug, Clone)]
pub struct LateDb {
    db: Db,
    verified: Arc<AtomicBool>,
}

impl LateDb {
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, verified: Arc::default() }
    }

    /// # Errors
    /// As [`Db::verify`].
    pub async fn verify(&self) -> Result<(), DbError> {
        self.db.verify().await?;
        self.verified.store(true, Ordering::Release);
        Ok(())
    }

    /// # Errors
    /// `Unavailable` until it was verified.
    pub fn get(&self) -> Result<&Db, DbError> {
        if self.verified.load(Ordering::Acquire) { Ok(&self.db) } else { Err(DbError::Unavailable(None)) }
    }
}
