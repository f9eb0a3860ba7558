/**
 * What `ipref check` asks of a running gateway, answered from its parts: of hosts, of a peer (check.ts), of the node (nodeCheck.ts); and the encoded address of
 * a host that is named by context and reference.
 */
import { type AddressWords, equalAddress, formatAddress, formatHostPort, wordsFromBytes } from '../ipref/address.ts'
import { parseIprefAddress } from '../ipref/iprefAddress.ts'
import { Checker, sourcesOf } from './check.ts'
import type { GatewayConfig } from './config.ts'
import type { CheckReport, EncodeReport, PeerReport } from './controlReports.ts'
import { ownAddresses, wireMtuTo } from './device.ts'
import type { Echoes } from './echoes.ts'
import type { Sample } from './kube/nodeForward.ts'
import type { Mapper } from './mapper/mapper.ts'
import { checkNode, type NodeFacts } from './nodeCheck.ts'
import type { Peers } from './peers/peers.ts'
import { peerReport } from './statusReports.ts'

type Request = Record<string, unknown>

export interface CheckParts {
  config: GatewayConfig
  /** our own addresses, as far as they are known */
  contexts(): readonly Uint8Array[]
  mapper: Mapper
  peers: Peers
  peer(context: Uint8Array): PeerReport | undefined
  kube:
    | {
        readonly forwardSamples: readonly Sample[] | undefined
        carrierOf(address: Uint8Array): string | undefined
        portOf(context: AddressWords): number | undefined
        readonly silence: string | undefined
      }
    | undefined
  echoes: Echoes
  listening(): readonly string[]
  /** reasons of /readyz */
  unready(): readonly string[]
  filterTable: string | undefined
}

/** `{ addresses }`, `{ peer }`, or of the node. */
export async function answerCheck({ addresses, peer }: Request, parts: CheckParts): Promise<CheckReport> {
  if (peer !== undefined) return checkerOf(parts).peer(String(peer))
  if (Array.isArray(addresses)) return checkerOf(parts).hosts(addresses.map(String))
  return { steps: await checkNode(nodeFacts(parts)), hosts: [], sources: [] }
}

function checkerOf(parts: CheckParts): Checker {
  const { config, peers, kube, mapper } = parts
  return new Checker({
    describe: address => mapper.describe(address),
    carrierOf: address => kube?.carrierOf(address),
    silence: () => kube?.silence,
    peer: parts.peer,
    know: context => {
      const number = peers.require(...wordsFromBytes(context))
      if (number >= 0) peers.release(number)
      return number >= 0
    },
    expectedPort: context => {
      const configured = config.peers.find(({ address }) => equalAddress(address, context))?.port
      return configured ?? kube?.portOf(wordsFromBytes(context)) ?? config.remotePort
    },
    wireMtu: context => config.wireMtu ?? wireMtuTo(context),
    isOwnContext: context => isOwn(context, parts),
    sources: () => sourcesOf(ownAddresses(), config),
    echoes: parts.echoes,
  })
}

function isOwn(context: Uint8Array, { contexts, config }: CheckParts): boolean {
  return [...contexts(), ...config.bind].some(own => equalAddress(own, context))
}

function nodeFacts(parts: CheckParts): NodeFacts {
  const { encodingNetworks, tunName, port, bind, devmode, resolver, metrics, health } = parts.config
  return {
    encodingNetworks,
    tunName,
    port,
    gateway: {
      listening: parts.listening(),
      services: [
        ...(resolver?.listen ?? []).map(one => `resolver at ${formatHostPort(formatAddress(one.address), one.port)}`),
        ...(metrics ? [`metrics at ${formatHostPort(metrics.host, metrics.port)}`] : []),
        ...(health ? [`health at ${formatHostPort(health.host, health.port)}`] : []),
      ],
      bind,
      contexts: parts.contexts(),
      unready: parts.unready(),
      peers: parts.peers.status().map(peerReport),
      samples: parts.kube?.forwardSamples,
      devmode,
      filterTable: parts.filterTable,
    },
  }
}

/** `{ context, reference }`: what stands for that host here. */
export function answerEncode({ context, reference }: Request, parts: CheckParts): EncodeReport {
  const { config, mapper } = parts
  const text = `${String(context)} + ${String(reference)}`
  const wanted = parseIprefAddress(text)
  if (!wanted) return { refused: `${text} is no IPREF address` }
  const families = [...new Set(config.encodingNetworks.map(({ family }) => family))]
  if (isOwn(wanted.context, parts)) {
    const native = families.flatMap(family => mapper.nativeOf({ family, reference: wanted.reference }) ?? [])
    if (native.length > 0) return { addresses: native.map(formatAddress) }
    return { refused: `${String(context)} is this gateway, and no host here has that reference` }
  }
  const found = families.map(family => mapper.encodedFor({ ...wanted, family }))
  const addresses = found.flatMap(one => ('encoded' in one ? [formatAddress(one.encoded)] : []))
  const [refusal] = found.flatMap(one => ('refused' in one ? [one.refused] : []))
  return addresses.length > 0 ? { addresses } : { refused: refusal ?? 'there is no encoding network' }
}
