use super::*;

#[test]
fn only_failures_that_affect_all_recipients_are_reported_of_the_provider() {
    let error = || "why".to_owned();
    let wait = Duration::from_secs(7);
    for (verdict, expected) in [
        (DeliveryResult::Delivered, ProviderReport::Alive),
        (DeliveryResult::Permanent { error: error() }, ProviderReport::Alive),
        (DeliveryResult::Gone { error: error() }, ProviderReport::Alive),
        (DeliveryResult::Deferred { error: error(), retry_after: Some(wait) }, ProviderReport::Alive),
        (DeliveryResult::Transient { error: error(), retry_after: Some(wait) }, ProviderReport::Sick),
        (DeliveryResult::Throttled { retry_after: wait }, ProviderReport::Throttled(wait)),
    ] {
        assert_eq!(report(&verdict), expected, "{verdict:?}");
    }
}
