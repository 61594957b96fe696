//! Who may log in by fallback: the tenant's policy for a category, held against the state of its IdP.

use guichet_config::{Category, FallbackPolicy, Tenant};

use super::IdpState;

/// Whether some user of a tenant may: before the user is known one category that may is enough, and the category is
/// looked at again.
pub fn offers_fallback(tenant: &Tenant, state: IdpState) -> bool {
    allows(tenant.fallback_staff, state) || allows(tenant.fallback_students, state)
}

/// Whether a user of this category may.
pub fn category_falls_back(tenant: &Tenant, category: Category, state: IdpState) -> bool {
    let policy = match category {
        Category::Staff => tenant.fallback_staff,
        Category::Student => tenant.fallback_students,
    };
    allows(policy, state)
}

fn allows(policy: FallbackPolicy, state: IdpState) -> bool {
    match policy {
        FallbackPolicy::Off => false,
        FallbackPolicy::Operator => state == IdpState::ForcedDown,
        FallbackPolicy::Auto => state.offers_fallback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_decides_by_state() {
        use FallbackPolicy::{Auto, Off, Operator};
        use IdpState::{Down, ForcedDown, ForcedUp, Suspect, Up};
        for (policy, allowed) in [(Off, &[][..]), (Operator, &[ForcedDown]), (Auto, &[Down, ForcedDown])] {
            for state in [Up, Suspect, Down, ForcedDown, ForcedUp] {
                assert_eq!(allows(policy, state), allowed.contains(&state), "{policy:?} {state:?}");
            }
        }
    }
}
