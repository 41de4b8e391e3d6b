//! Why the engine cannot be asked.

use crate::outcome::coded_causes;

coded_causes! {
    /// Why the shared engine cannot be asked. The order is that of a connection's life.
    EngineTrouble {
        /// No connection has been tried yet.
        Starting = "starting";
        /// No connection to the engine can be made: it is not running, its address is wrong, or the network is down.
        Unreachable = "unreachable";
        /// No sentinel that answers knows the master of `service`, by its IP address.
        NoMaster = "no_master";
        /// The engine does not answer in time: it hangs, or the network loses what is sent.
        Silent = "silent";
        /// The certificate of the engine is not of the authority in `ca`, not for `server_name`, or not valid at this time.
        CertificateRefused = "certificate_refused";
        /// No TLS handshake comes about: the server speaks no TLS at this port, or wants a client certificate that it trusts.
        TlsFailed = "tls_failed";
        /// The engine has closed the connection.
        Closed = "closed";
        /// What the engine sends is no answer: the server at this address speaks another protocol.
        Malformed = "malformed";
        /// The engine refuses the user or the password, or wants one.
        PasswordRefused = "password_refused";
        /// The user may not do what is needed: the commands, or the keys with the prefix, are not allowed to it.
        NotPermitted = "not_permitted";
        /// The server is older than Redis 7.0 or Valkey 7.2.
        TooOld = "too_old";
        /// The server is a replica: claims must be written, and read where they are written.
        IsReplica = "is_replica";
        /// The server is a node of a cluster and `cluster = true` is missing, or it is none and `cluster = true` is there; or it is
        /// a sentinel: `sentinels` is where those are written.
        Cluster = "cluster";
        /// The cluster has no node for the keys of a route: a primary is gone, and no replica has taken its place yet.
        ClusterDown = "cluster_down";
        /// The server may evict claims when its memory is full: its `maxmemory-policy` is not `noeviction`.
        Evicts = "evicts";
        /// The server is loading its data.
        Loading = "loading";
        /// The memory of the server is full.
        OutOfMemory = "out_of_memory";
        /// The server refuses writes because it cannot save its data.
        CannotSave = "cannot_save";
        /// The server answers with another error.
        Refusing = "refusing";
        /// As many claims of this worker are with the engine as may be.
        Full = "full";
    }
}

impl EngineTrouble {
    /// Whether waiting does not help: the operator has to change something.
    #[must_use]
    pub const fn is_of_configuration(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::CertificateRefused
                | Self::TlsFailed
                | Self::PasswordRefused
                | Self::NotPermitted
                | Self::TooOld
                | Self::IsReplica
                | Self::Cluster
                | Self::Evicts
        )
    }

    /// What an error of the server means. Its first word is its kind.
    #[must_use]
    pub fn of_error(error: &[u8]) -> Self {
        let kind = error.split(|byte| *byte == b' ').next().unwrap_or_default();
        match kind {
            b"NOAUTH" | b"WRONGPASS" => Self::PasswordRefused,
            b"NOPERM" => Self::NotPermitted,
            b"READONLY" | b"MASTERDOWN" => Self::IsReplica,
            b"MOVED" | b"ASK" | b"CROSSSLOT" | b"TRYAGAIN" => Self::Cluster,
            b"CLUSTERDOWN" => Self::ClusterDown,
            b"LOADING" => Self::Loading,
            b"OOM" => Self::OutOfMemory,
            b"MISCONF" | b"NOREPLICAS" => Self::CannotSave,
            // What a script may not do is told as an error of the script.
            _ if memchr::memmem::find(error, b"can't run this command").is_some() => Self::NotPermitted,
            _ if memchr::memmem::find(error, b"can't access at least one of the keys").is_some() => Self::NotPermitted,
            _ => Self::Refusing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_first_word() {
        for (error, trouble) in [
            (&b"NOAUTH Authentication required."[..], EngineTrouble::PasswordRefused),
            (b"NOPERM User x has no permissions to run the 'evalsha' command", EngineTrouble::NotPermitted),
            (b"READONLY You can't write against a read only replica.", EngineTrouble::IsReplica),
            (b"LOADING Redis is loading the dataset in memory", EngineTrouble::Loading),
            (b"OOM command not allowed when used memory > 'maxmemory'.", EngineTrouble::OutOfMemory),
            (b"MISCONF Redis is configured to save RDB snapshots", EngineTrouble::CannotSave),
            (b"MOVED 1 127.0.0.1:7000", EngineTrouble::Cluster),
            (b"ERR unknown command", EngineTrouble::Refusing),
            (b"ERR The user executing the script can't run this command or subcommand", EngineTrouble::NotPermitted),
            (b"", EngineTrouble::Refusing),
        ] {
            assert_eq!(EngineTrouble::of_error(error), trouble, "{}", error.escape_ascii());
        }
    }
}
