/** The meaning of an attempt's evidence, in a sentence. */
export const EVIDENCE: Readonly<Record<string, string>> = {
  'source-port': 'The line has the local port of the connection, and only one connection used it then.',
  'request-id': "The request's id was seen on the wire, on its way to this pod.",
  'request-window': 'Every request of that time and size went to this pod.',
  'sole-backend': 'Every connection to this address at that time led to this pod.',
  'only-answer': 'Every answer that this line can have had came from this pod.',
  timing: 'Only one assignment of connections to lines is possible. A deduction, not an observation.',
};

/** The reason for which an attempt is unresolved, in a sentence. */
export const REASON: Readonly<Record<string, string>> = {
  ambiguous:
    'The records lead to more than one pod, so none is named. realpod doctor shows which fields would separate them.',
  'no-flow': 'No connection was seen that this request could have used.',
  gap: 'The records of that time are incomplete, so no pod is named.',
  late: 'The records of the helper did not arrive in time.',
  direct: "The address is the pod's own already.",
  unconnected: 'nginx got no connection: the Service had no ready pod, or the connection was refused.',
  'not-ip':
    'nginx logged no IP address that it connected to: a socket, the name of an upstream, a session of UDP, or nothing.',
};

export const UNPARSED: Readonly<Record<string, string>> = {
  empty: 'The line is empty.',
  format: 'The line does not fit the log format of realpod (--log-format).',
  'too-long': 'The line is longer than the limit of realpod.',
};
