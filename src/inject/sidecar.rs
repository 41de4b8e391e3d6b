//! The container that is added to a pod, and the volumes that it mounts.

use super::shape::Shape;

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
    pub(super) fn container(&self) -> Shape {
        let mut entries = vec![("name", Shape::text(NAME)), ("image", Shape::text(&*self.image))];
        if !self.plain {
            entries.push(("restartPolicy", Shape::text("Always")));
        }
        let port = |name: &str, number: u16| {
            Shape::map([
                ("name", Shape::text(name)),
                ("containerPort", Shape::number(number)),
                ("protocol", Shape::text("TCP")),
            ])
        };
        entries.extend([
            ("args", Shape::texts(&["run", "--config", CONFIG_PATH])),
            ("ports", Shape::List(vec![port(NAME, self.listen), port("countersign-adm", self.admin)])),
            // The application starts when this one has.
            ("startupProbe", self.probe("/startup", 1, 60)),
            ("livenessProbe", self.probe("/live", 10, 3)),
            ("readinessProbe", self.probe("/ready", 2, 1)),
            ("lifecycle", lifecycle()),
            ("resources", resources()),
            ("securityContext", self.security()),
            ("volumeMounts", mounts()),
        ]);
        Shape::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The volumes.
    #[must_use]
    pub(super) fn volumes(&self) -> Vec<Shape> {
        let config = Shape::map([("name", Shape::text(&*self.config_map))]);
        let secret = Shape::map([
            ("secretName", Shape::text(&*self.secret)),
            // 0440, in decimal, as JSON has it.
            ("defaultMode", Shape::number(0o440_u16)),
        ]);
        vec![
            Shape::map([("name", Shape::text(CONFIG_VOLUME)), ("configMap", config)]),
            Shape::map([("name", Shape::text(SECRETS_VOLUME)), ("secret", secret)]),
        ]
    }

    fn probe(&self, path: &str, period: u16, failures: u16) -> Shape {
        let get = Shape::map([("path", Shape::text(path)), ("port", Shape::number(self.admin))]);
        Shape::map([
            ("httpGet", get),
            ("periodSeconds", Shape::number(period)),
            ("failureThreshold", Shape::number(failures)),
        ])
    }

    fn security(&self) -> Shape {
        let profile = match &self.seccomp {
            None => Shape::map([("type", Shape::text("RuntimeDefault"))]),
            Some(path) => Shape::map([("type", Shape::text("Localhost")), ("localhostProfile", Shape::text(&**path))]),
        };
        Shape::map([
            ("allowPrivilegeEscalation", Shape::truth(false)),
            ("readOnlyRootFilesystem", Shape::truth(true)),
            ("runAsNonRoot", Shape::truth(true)),
            ("runAsUser", Shape::number(USER)),
            ("runAsGroup", Shape::number(USER)),
            ("capabilities", Shape::map([("drop", Shape::texts(&["ALL"]))])),
            ("seccompProfile", profile),
        ])
    }
}

/// The kubelet runs it as soon as the pod is to end, and sends SIGTERM when the application has ended.
fn lifecycle() -> Shape {
    let command = Shape::texts(&["/countersign", "drain", "--config", CONFIG_PATH]);
    Shape::map([("preStop", Shape::map([("exec", Shape::map([("command", command)]))]))])
}

fn resources() -> Shape {
    Shape::map([
        ("requests", Shape::map([("cpu", Shape::text("50m")), ("memory", Shape::text("64Mi"))])),
        ("limits", Shape::map([("cpu", Shape::text("500m")), ("memory", Shape::text("64Mi"))])),
    ])
}

fn mounts() -> Shape {
    let mount = |volume: &str, path: &str| {
        Shape::map([("name", Shape::text(volume)), ("mountPath", Shape::text(path)), ("readOnly", Shape::truth(true))])
    };
    Shape::List(vec![
        mount(CONFIG_VOLUME, "/etc/countersign/config"),
        mount(SECRETS_VOLUME, "/etc/countersign/secrets"),
    ])
}
