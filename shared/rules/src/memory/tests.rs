use super::*;

#[tokio::test]
async fn the_memory_store_keeps_every_promise() {
    crate::conformance::check(&MemoryAlertStore::new()).await.unwrap();
}
