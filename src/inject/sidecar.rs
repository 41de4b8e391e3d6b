//! The container that is added to a pod, and the volumes that it mounts.

use super::shape::ManifestValue;

/// The name of the container, and of the port that it listens on.
pub(super) const NAME: &str = "countersign";
/// The volume with the configuration.
pub(super) const CONFIG_VOLUME: &str = "countersign-config";
/// The volume with the secrets.
pub(super) const SECRETS_VOLUME: &str = "countersign-secrets";
/// Where the configuration is in the container.
pub(super) const CONFIG_PATH: &str = "/etc/countersign/config/countersign.toml";
/// The user and the group of the image. Volumes of the pod are given to this group.
pub(super) const USER: u16 = 65532;

/// How the sidecar is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarOptions {
    /// The image, with its tag or digest.
    pub image: String,
    /// The `ConfigMap` with `countersign.toml`.
    pub config_map: String,
    /// The `Secret` whose keys are files below `/etc/countersign/secrets`.
    pub secret: String,
    /// The port of the listener in that configuration.
    pub listen: u16,
    /// The port of `[admin]` in that configuration.
    pub admin: u16,
    /// A seccomp profile below the kubelet's folder; nothing for that of the container runtime.
    pub seccomp: Option<String>,
    /// An ordinary container, for clusters before 1.29, instead of an init container that is restarted.
    pub plain: bool,
}

impl SidecarOptions {
    /// The container.
    #[must_use]
    pub(super) fn container(&self) -> ManifestValue {
        let mut entries = vec![("name", ManifestValue::text(NAME)), ("image", ManifestValue::text(&*self.image))];
        if !self.plain {
            entries.push(("restartPolicy", ManifestValue::text("Always")));
        }
        let port = |name: &str, number: u16| {
            ManifestValue::map([
                ("name", ManifestValue::text(name)),
                ("containerPort", ManifestValue::number(number)),
                ("protocol", ManifestValue::text("TCP")),
            ])
        };
        entries.extend([
            ("args", ManifestValue::texts(&["run", "--config", CONFIG_PATH])),
            ("ports", ManifestValue::List(vec![port(NAME, self.listen), port("countersign-adm", self.admin)])),
            // The application starts when this one has.
            ("startupProbe", self.probe("/startup", 1, 60)),
            ("livenessProbe", self.probe("/live", 10, 3)),
            ("readinessProbe", self.probe("/ready", 2, 1)),
            ("lifecycle", lifecycle()),
            ("resources", resources()),
            ("securityContext", self.security()),
            ("volumeMounts", mounts()),
        ]);
        ManifestValue::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The volumes.
    #[must_use]
    pub(super) fn volumes(&self) -> Vec<ManifestValue> {
        let config = ManifestValue::map([("name", ManifestValue::text(&*self.config_map))]);
        let secret = ManifestValue::map([
            ("secretName", ManifestValue::text(&*self.secret)),
            // 0440, in decimal, as JSON has it.
            ("defaultMode", ManifestValue::number(0o440_u16)),
        ]);
        vec![
            ManifestValue::map([("name", ManifestValue::text(CONFIG_VOLUME)), ("configMap", config)]),
            ManifestValue::map([("name", ManifestValue::text(SECRETS_VOLUME)), ("secret", secret)]),
        ]
    }

    fn probe(&self, path: &str, period: u16, failures: u16) -> ManifestValue {
        let get =
            ManifestValue::map([("path", ManifestValue::text(path)), ("port", ManifestValue::number(self.admin))]);
        ManifestValue::map([
            ("httpGet", get),
            ("periodSeconds", ManifestValue::number(period)),
            ("failureThreshold", ManifestValue::number(failures)),
        ])
    }

    fn security(&self) -> ManifestValue {
        let profile = match &self.seccomp {
            None => ManifestValue::map([("type", ManifestValue::text("RuntimeDefault"))]),
            Some(path) => ManifestValue::map([
                ("type", ManifestValue::text("Localhost")),
                ("localhostProfile", ManifestValue::text(&**path)),
            ]),
        };
        ManifestValue::map([
            ("allowPrivilegeEscalation", ManifestValue::truth(false)),
            ("readOnlyRootFilesystem", ManifestValue::truth(true)),
            ("runAsNonRoot", ManifestValue::truth(true)),
            ("runAsUser", ManifestValue::number(USER)),
            ("runAsGroup", ManifestValue::number(USER)),
            ("capabilities", ManifestValue::map([("drop", ManifestValue::texts(&["ALL"]))])),
            ("seccompProfile", profile),
        ])
    }
}

/// The kubelet runs it as soon as the pod is to end, and sends SIGTERM when the application has ended.
fn lifecycle() -> ManifestValue {
    let command = ManifestValue::texts(&["/countersign", "drain", "--config", CONFIG_PATH]);
    ManifestValue::map([("preStop", ManifestValue::map([("exec", ManifestValue::map([("command", command)]))]))])
}

fn resources() -> ManifestValue {
    ManifestValue::map([
        (
            "requests",
            ManifestValue::map([("cpu", ManifestValue::text("50m")), ("memory", ManifestValue::text("64Mi"))]),
        ),
        ("limits", ManifestValue::map([("cpu", ManifestValue::text("500m")), ("memory", ManifestValue::text("64Mi"))])),
    ])
}

fn mounts() -> ManifestValue {
    let mount = |volume: &str, path: &str| {
        ManifestValue::map([
            ("name", ManifestValue::text(volume)),
            ("mountPath", ManifestValue::text(path)),
            ("readOnly", ManifestValue::truth(true)),
        ])
    };
    ManifestValue::List(vec![
        mount(CONFIG_VOLUME, "/etc/countersign/config"),
        mount(SECRETS_VOLUME, "/etc/countersign/secrets"),
    ])
}
