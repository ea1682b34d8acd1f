//! Which VMs a list or a filter means (O38): tenant, region, and `tag:key=value`.

use dwcp_api::public::ListVms;
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ownership::VmRecord;
use dwcp_types::{RegionId, TenantId};

/// A filter that is known to be well formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    tenant: Option<TenantId>,
    region: Option<RegionId>,
    label: Option<(String, String)>,
}

impl Selector {
    /// Reads a list's parameters.
    ///
    /// # Errors
    ///
    /// When the label is not `key=value` or `tag:key=value`.
    pub fn new(asked: &ListVms) -> Result<Self, ApiError> {
        let label = asked.label.as_deref().map(parse_label).transpose()?;
        Ok(Self { tenant: asked.tenant.clone(), region: asked.region.clone(), label })
    }

    /// Whether a VM is meant.
    #[must_use]
    pub fn accepts(&self, record: &VmRecord) -> bool {
        let request = &record.request;
        self.tenant.as_ref().is_none_or(|tenant| *tenant == request.tenant)
            && self.region.as_ref().is_none_or(|region| *region == record.owner.region)
            && self.label.as_ref().is_none_or(|(key, value)| {
                request.labels.get(key).is_some_and(|have| have == value)
            })
    }
}

fn parse_label(text: &str) -> Result<(String, String), ApiError> {
    let pair = text.strip_prefix("tag:").unwrap_or(text).split_once('=');
    match pair {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => {
            Err(ApiError::new(ErrorCode::Invalid, format!("{text:?} is no label filter"))
                .with_remedy("write tag:KEY=VALUE, for example tag:env=production"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_of_the_source_is_read() {
        assert_eq!(
            parse_label("tag:env=production").unwrap(),
            ("env".to_owned(), "production".to_owned())
        );
        assert_eq!(parse_label("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(
            parse_label("env").unwrap_err().remedy.unwrap().contains("tag:KEY=VALUE")
        );
        assert!(parse_label("=x").is_err());
    }
}
