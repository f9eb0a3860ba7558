/**
 * Names that an object had and does not ask for any more, in its status until their records are gone: an operator that begins finds them there, where a server
 * shows no whole zone. Pure.
 *
 *   renamed, refused, a member or the last address gone ──► written together with what comes instead ──► gone from every output and server ──► dropped
 */
import type { IprefServiceStatus } from '../../resources/kinds.ts'

/** As many as a status holds; beyond, the last are left to outputs that find their own records. */
export const MOST_FORMER_NAMES = 256

type Named = Pick<IprefServiceStatus, 'internalName' | 'publicName' | 'mappings'>

/** undefined: there are none. `isGone`: no record of ours is left under it. */
export function formerNames(
  before: IprefServiceStatus | undefined,
  now: Named,
  isGone: (name: string) => boolean,
): string[] | undefined {
  if (!before) return undefined
  const wanted = namesIn(now)
  // one that is new among them is written, whatever is known of it: this write is what another operator has to go by
  const names = new Set([...namesIn(before), ...(before.formerNames ?? []).filter(name => !isGone(name))])
  for (const name of wanted) names.delete(name)
  return names.size === 0 ? undefined : [...names].sort().slice(0, MOST_FORMER_NAMES)
}

/** Without addresses there are no records. */
function namesIn({ internalName, publicName, mappings = [] }: Named): Set<string> {
  const names = new Set<string>()
  for (const name of [internalName, publicName])
    for (const { member } of name === undefined ? [] : mappings) {
      names.add(name!)
      if (member !== undefined) names.add(`${member}.${name}`)
    }
  return names
}
