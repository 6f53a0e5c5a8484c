use super::*;

#[test]
fn only_what_concerns_all_recipients_is_said_of_the_provider() {
    let error = || "why".to_owned();
    let wait = Duration::from_secs(7);
    for (verdict, expected) in [
        (Verdict::Delivered, Report::Alive),
        (Verdict::Permanent { error: error() }, Report::Alive),
        (Verdict::Gone { error: error() }, Report::Alive),
        (Verdict::Deferred { error: error(), retry_after: Some(wait) }, Report::Alive),
        (Verdict::Transient { error: error(), retry_after: Some(wait) }, Report::Sick),
        (Verdict::Throttled { retry_after: wait }, Report::Throttled(wait)),
    ] {
        assert_eq!(report(&verdict), expected, "{verdict:?}");
    }
}
