//! A placement request under construction: a file, flags over it, defaults under it.
//!
//! A file is read as a draft in which everything may be missing, so that flags can complete
//! it, and with the same keys as the API's [`PlacementRequest`]. What cannot hold whatever the
//! fleet is is told here already, by the same rules that the federation uses.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use dwcp_controller::placement;
use dwcp_types::{
    Constraints, Gib, Mbps, Mib, OnRegionLoss, Origin, PlacementRequest, Strategy,
    TenantId, Tier, VmId, VmShape, VmType,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::parse::{Quantity, SpecPatch};

/// A request is a page of text; what is larger is something else.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Whose a VM is when nothing is said, as in the example of DETAILS 2.1.
const TENANT: &str = "default";
/// How urgent it is when nothing is said: the middle, as in the API.
const PRIORITY: u8 = 5;

/// A request in which everything may be missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Draft {
    pub(crate) id: Option<VmId>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) spec: SpecPatch,
    pub(crate) vm_type: Option<VmType>,
    pub(crate) constraints: Constraints,
    pub(crate) origins: Vec<Origin>,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) priority: Option<u8>,
    pub(crate) tier: Option<Tier>,
    pub(crate) on_region_loss: Option<OnRegionLoss>,
    pub(crate) replica_max_age_s: Option<u32>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Draft {
    /// The request, with a name of its own when none was said.
    ///
    /// # Errors
    ///
    /// What is missing, or what contradicts itself.
    pub(crate) fn finish(self, fallback: &VmId) -> Result<PlacementRequest, Failure> {
        let tenant = self.tenant.map_or_else(|| TENANT.parse(), Ok);
        let request = PlacementRequest {
            shape: shape_of(&self.spec)?,
            id: self.id.unwrap_or_else(|| fallback.clone()),
            tenant: tenant.map_err(|error| Failure::usage(error.to_string()))?,
            vm_type: self.vm_type.unwrap_or_default(),
            constraints: self.constraints,
            origins: self.origins,
            strategy: self.strategy,
            priority: self.priority.unwrap_or(PRIORITY),
            tier: self.tier.unwrap_or_default(),
            on_region_loss: self.on_region_loss.unwrap_or_default(),
            replica_max_age_s: self.replica_max_age_s,
            labels: self.labels,
        };
        placement::validate(&request).map_err(|found| {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            Failure::usage(format!("the request cannot hold: {}", found.join("\n  ")))
                .with_remedy("change or leave out what is named")
        })?;
        Ok(request)
    }
}

/// The whole size, or what is missing of it.
fn shape_of(spec: &SpecPatch) -> Result<VmShape, Failure> {
    let amount = |size: &Option<Quantity>| size.as_ref().map(|size| size.amount);
    let sizes = (amount(&spec.cpu), amount(&spec.memory), amount(&spec.storage));
    let (Some(cpu), Some(memory), Some(storage)) = sizes else {
        let missing = [
            ("cpu", spec.cpu.is_none()),
            ("memory", spec.memory.is_none()),
            ("storage", spec.storage.is_none()),
        ];
        let missing: Vec<_> =
            missing.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
        let message = format!("the size of the VM is missing: {}", missing.join(", "));
        return Err(Failure::usage(message).with_remedy(
            "say it with --spec \"cpu:4,memory:8192,storage:100\", with --cpu, --memory and --storage, or in a file with -f",
        ));
    };
    Ok(VmShape {
        cpu: narrow("cpu", cpu)?,
        memory: Mib::new(memory),
        storage: Gib::new(storage),
        bandwidth: Mbps::new(amount(&spec.bandwidth).unwrap_or_default()),
        gpus: narrow("gpus", amount(&spec.gpus).unwrap_or_default())?,
    })
}

fn narrow(name: &str, amount: u64) -> Result<u32, Failure> {
    u32::try_from(amount).map_err(|_| {
        Failure::usage(format!("{name}: {amount} are more than any machine has"))
            .with_remedy("ask for less")
    })
}

/// Reads a file of YAML or JSON, `-` for standard input.
///
/// # Errors
///
/// When it cannot be read, is too large, or is not what is expected; with line and column.
pub(crate) fn read_file<T: DeserializeOwned>(
    path: &Path,
    input: &mut dyn Read,
) -> Result<T, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        input.take(FILE_LEN_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_string(&mut text))
    };
    let shown = if path.as_os_str() == "-" { Path::new("standard input") } else { path };
    let shown = shown.display();
    let length = read.map_err(|error| {
        Failure::usage(format!("{shown} cannot be read: {error}"))
            .with_remedy("check the path; `-` reads standard input")
    })?;
    if u64::try_from(length).unwrap_or(u64::MAX) > FILE_LEN_MAX {
        return Err(Failure::usage(format!(
            "{shown} is larger than {FILE_LEN_MAX} bytes"
        ))
        .with_remedy("name a file with one request"));
    }
    parse(&text, &shown.to_string())
}

fn parse<T: DeserializeOwned>(text: &str, shown: &str) -> Result<T, Failure> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error
            .location()
            .map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
        let mut reason = error.without_snippet().to_string();
        if let Some(end) = reason.rfind(" at line ") {
            reason.truncate(end);
        }
        Failure::usage(format!("{shown}{at}: {}", reason.trim()))
            .with_remedy("correct it there; the keys are those of the API")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: Failure) -> String {
        match failure {
            Failure::Told(told) => told.message,
            Failure::Closed => String::new(),
        }
    }

    #[test]
    fn a_file_of_the_api_is_a_draft() {
        let text = "id: vm-web-001\ntenant: customer-123\nspec: {cpu: 4, memory: 8192, storage: 100}\nconstraints:\n  max_latency_ms: 100\n";
        let draft: Draft = parse(text, "f").unwrap();
        let request = draft.finish(&VmId::new("other").unwrap()).unwrap();
        let same: PlacementRequest = parse(text, "f").unwrap();
        assert_eq!(request, same);
        let json = serde_json::to_string(&request).unwrap();
        let again: Draft = parse(&json, "f").unwrap();
        assert_eq!(again.finish(&request.id).unwrap(), request);
    }

    #[test]
    fn a_size_may_have_a_unit_in_a_file_too() {
        let draft: Draft =
            parse("spec: {cpu: '4', memory: 8GiB, storage: 1.5TiB}", "f").unwrap();
        let shape = shape_of(&draft.spec).unwrap();
        assert_eq!((shape.cpu, shape.memory), (4, Mib::new(8_192)));
        assert_eq!(shape.storage, Gib::new(1_536));
        for (text, part) in [
            ("memory: lots", "memory: \"lots\" is no unit"),
            ("memory: -1", "memory: -1 is negative"),
            ("memory: [1]", "memory: write a whole number"),
            ("cpu: 1.5", "cpu: 1.5 is not whole"),
        ] {
            let error =
                told(parse::<Draft>(&format!("spec:\n  {text}\n"), "f").unwrap_err());
            assert!(error.starts_with("f:2:") && error.contains(part), "{error}");
        }
        let huge = "cpu:99999999999,memory:1,storage:1".parse().unwrap();
        assert!(told(shape_of(&huge).unwrap_err()).contains("any machine"));
    }

    #[test]
    fn mistakes_in_a_file_are_told_with_line_and_column() {
        let error = parse::<Draft>("id: vm-1\nspec:\n  ram: 5\n", "vm.yaml").unwrap_err();
        let error = told(error);
        assert!(error.starts_with("vm.yaml:3:3: "), "{error}");
        assert!(error.contains("ram"), "{error}");
        let error = told(parse::<Draft>("id: [", "vm.yaml").unwrap_err());
        assert!(error.starts_with("vm.yaml:"), "{error}");
    }

    #[test]
    fn what_is_missing_and_what_contradicts_itself_is_told_at_once() {
        let id = VmId::new("v").unwrap();
        let draft: Draft = parse("spec: {cpu: 4}", "f").unwrap();
        assert!(told(draft.finish(&id).unwrap_err()).ends_with("memory, storage"));
        let draft: Draft = parse(
            "spec: {cpu: 4, memory: 1, storage: 1}\npriority: 11\nconstraints: {min_health_score: 200}",
            "f",
        )
        .unwrap();
        let error = told(draft.finish(&id).unwrap_err());
        assert!(
            error.contains("priority: 11") && error.contains("min_health_score: 200")
        );
    }
}
