/**
 * What is said of the publication of an IprefService: `PublishedInternal` and `PublishedPublic`, with reasons that are documented and never renamed. Pure.
 */
import type { Finding } from '../conditions.ts'
import { MOST_AA, type ZoneKind } from './records.ts'

/** Reasons, with what each says to a person. README.md has the table. */
export const publishReasons = {
  Published: 'every server of the zone answers with the records',
  NotReadBack: 'the records were handed to every output; reading back is switched off (readBack.mode)',
  WaitingForDns: 'the records are handed over, and not every server of the zone has them yet',
  WaitingForOutput: 'the records are not handed over yet',
  Drifted: 'the records were there, and are not any more; they are published again',
  OutputFailed: 'an output does not take the records',
  NotOurs: 'the name is in use there by somebody else, and is left alone',
  NameTaken: 'an older object has the name',
  NoServers: 'nobody is known who could be asked whether the records are there',
  NoPublisher: 'nothing is configured that publishes this zone',
  NoPublicZone: 'the platform has no public zone',
  PublicAddressUnknown: 'no published gateway has a known public address',
  NotAccepted: 'the object is not accepted, so nothing of it is published',
  NothingToPublish: 'the object has no addresses',
} as const

export type PublishReason = keyof typeof publishReasons

export const conditionTypes: Readonly<Record<ZoneKind, 'PublishedInternal' | 'PublishedPublic'>> = {
  internal: 'PublishedInternal',
  public: 'PublishedPublic',
}

export interface FindingInput {
  kind: ZoneKind
  /** absent: there is no such zone */
  zone: string | undefined
  isAccepted: boolean
  hasMappings: boolean
  hasPublicGateway: boolean
  /** sets that the object shall have there */
  sets: number
  /** an object that has one of its names */
  takenBy: string | undefined
  leftOut: number
  /** outputs of the zone */
  outputs: readonly { name: string; problem: string | undefined; isApplied: boolean; conflict: string | undefined }[]
  read: 'off' | { isRight: boolean; hasServers: boolean; isDrifted: boolean; problem: string | undefined }
}

type Check = (input: FindingInput) => Omit<Finding, 'type'> | undefined

const say = (status: Finding['status'], reason: PublishReason, message = ''): Omit<Finding, 'type'> => ({
  status,
  reason,
  message,
})

/** The first that says something counts. */
const checks: readonly Check[] = [
  ({ zone }) => (zone === undefined ? say('False', 'NoPublicZone', 'there is no public zone (publicZone)') : undefined),
  ({ isAccepted }) => (isAccepted ? undefined : say('Unknown', 'NotAccepted', 'the object is not accepted')),
  ({ hasMappings }) => (hasMappings ? undefined : say('False', 'NothingToPublish', 'there is no address to publish')),
  ({ kind, hasPublicGateway }) =>
    kind === 'internal' || hasPublicGateway
      ? undefined
      : say(
          'False',
          'PublicAddressUnknown',
          'no published gateway has a known public address: give nodes an ExternalIP, or set publicAddresses',
        ),
  ({ takenBy }) =>
    takenBy === undefined ? undefined : say('False', 'NameTaken', `an older object has the name: ${takenBy}`),
  ({ sets }) => (sets > 0 ? undefined : say('Unknown', 'WaitingForOutput', 'names are not settled yet')),
  ({ outputs }) => {
    const conflict = outputs.find(output => output.conflict !== undefined)
    return conflict && say('False', 'NotOurs', `${conflict.name}: ${conflict.conflict}`)
  },
  ({ outputs }) => {
    const broken = outputs.find(output => output.problem !== undefined && !output.isApplied)
    return broken && say('False', 'OutputFailed', `${broken.name}: ${broken.problem}`)
  },
  ({ outputs, read, zone }) =>
    outputs.length > 0 || (read !== 'off' && read.isRight)
      ? undefined
      : say('False', 'NoPublisher', `nothing publishes zone ${zone}: set publishers`),
  ({ outputs }) => {
    const late = outputs.find(output => !output.isApplied)
    return late && say('Unknown', 'WaitingForOutput', `${late.name} has not taken the records yet`)
  },
  ({ read, leftOut }) => (read === 'off' ? say('True', 'NotReadBack', leftOutText(leftOut)) : undefined),
  ({ read, leftOut }) => (read !== 'off' && read.isRight ? say('True', 'Published', leftOutText(leftOut)) : undefined),
  ({ read }) => (read !== 'off' && !read.hasServers ? say('Unknown', 'NoServers', read.problem ?? '') : undefined),
  ({ read }) => (read !== 'off' && read.isDrifted ? say('False', 'Drifted', read.problem ?? '') : undefined),
  ({ read }) => say('Unknown', 'WaitingForDns', read === 'off' ? '' : (read.problem ?? 'not asked for yet')),
]

function leftOutText(leftOut: number): string {
  return leftOut === 0 ? '' : `${leftOut} of its references found no room: a name has at most ${MOST_AA} AA strings`
}

export function publishFinding(input: FindingInput): Finding {
  const type = conditionTypes[input.kind]
  for (const check of checks) {
    const found = check(input)
    if (found) return { type, ...found }
  }
  return { type, ...say('Unknown', 'WaitingForDns') }
}
