/**
 * Says why bytes are refused. Readers throw it and nothing else; verify turns it
 * into a verdict, so that no caller ever sees it.
 */
export class Refusal extends Error {}

export function refuse(reason: string): never {
  throw new Refusal(reason);
}

/** Like Refusal, where nothing can be decided. */
export class Undecidable extends Error {}
