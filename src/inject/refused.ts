/** Why an input cannot be changed safely; `message` is one line for people. */
export class Refused extends Error {}

/** nginx's log names the pods already. */
export class Unneeded extends Refused {}
