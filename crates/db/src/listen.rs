//! Notifications from PostgreSQL.

use sqlx::postgres::{PgListener, PgPoolOptions};

use crate::{DbConfig, DbError};

/// Follows one channel. What is notified while the connection is lost is lost: whoever listens looks for itself from
/// time to time.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    pub(crate) async fn new(config: &DbConfig, channel: &str) -> Result<Self, DbError> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(config.acquire_timeout())
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(config.connect_options()?);
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(channel).await?;
        Ok(Self(listener))
    }

    /// The next notification. Cancelling it loses none.
    ///
    /// # Errors
    /// The connection is lost: begin anew.
    pub async fn next(&mut self) -> Result<(), DbError> {
        match self.0.try_recv().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(DbError::Unavailable(None)),
            Err(error) => Err(error.into()),
        }
    }
}
