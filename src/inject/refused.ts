/** An input cannot be changed safely; `message` is one line with the reason. */
export class Refused extends Error {}

/** The pod needs no sidecar: nginx's log already has the pods. */
export class Unneeded extends Refused {}
