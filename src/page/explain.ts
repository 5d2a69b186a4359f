/** What the evidence of an attempt means, in a sentence. */
export const EVIDENCE: Readonly<Record<string, string>> = {
  'source-port': 'The line has the local port of the connection, and only one connection used it then.',
  'request-id': "The request's id was seen on the wire, on its way to this pod.",
  'request-window': 'Every request of that time and size went to this pod.',
  'sole-backend': 'Every connection to this address at that time led to this pod.',
  'only-answer': 'Every answer that this line can have had came from this pod.',
  timing: 'Only one assignment of connections to lines is possible. A deduction, not an observation.',
};

/** Why an attempt is not resolved, in a sentence. */
export const REASON: Readonly<Record<string, string>> = {
  ambiguous:
    'What was seen leads to more than one pod, so none is named. realpod doctor says what would tell them apart.',
  'no-flow': 'No connection was seen that could have carried it.',
  gap: 'The record of connections has a hole at that time, so nothing is claimed.',
  late: 'What the helper saw did not arrive in time.',
  direct: "The address is the pod's own already.",
  unconnected: 'nginx got no connection: the Service had no ready pod, or the connection was refused.',
  'not-ip': 'nginx chose no address: a socket, the name of an upstream, or none.',
};

export const UNPARSED: Readonly<Record<string, string>> = {
  empty: 'The line is empty.',
  format: 'The line does not fit the log format that realpod was given (--log-format).',
  'too-long': 'The line is longer than realpod reads.',
};
