/**
 * What the cluster said last, in a file of the data folder: a gateway that starts while the API server is away goes on with it.
 *
 * Written by rename, so it is whole or the one before. Not a source of truth: once every view is there, only they count.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { IprefPeer, IprefService } from '../../resources/kinds.ts'
import { formatNetwork, type Network, parseNetwork } from '../../resources/network.ts'

const FORMAT = 1

export interface ClusterState {
  network: Network
  services: IprefService[]
  peers: IprefPeer[]
}

export class SavedState {
  readonly #path: string
  #text = ''

  constructor(path: string) {
    this.#path = path
  }

  /** undefined: there is none that can be used; `problem`: why. */
  read(): { state: ClusterState | undefined; problem?: string } {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      const isNone = (error as NodeJS.ErrnoException).code === 'ENOENT'
      return { state: undefined, ...(isNone ? {} : { problem: `${this.#path}: ${(error as Error).message}` }) }
    }
    try {
      const { format, network, services, peers } = JSON.parse(text) as { format: number } & ClusterState
      const checked = parseNetwork(JSON.stringify(network))
      if (format !== FORMAT || typeof checked === 'string' || !Array.isArray(services) || !Array.isArray(peers))
        throw new Error('not what this version writes')
      this.#text = text
      return { state: { network: checked, services, peers } }
    } catch (error) {
      return { state: undefined, problem: `${this.#path}: ${(error as Error).message}; it is not used` }
    }
  }

  /** Throws what the file system says. Nothing is written when nothing changed. */
  write({ network, services, peers }: ClusterState): void {
    const text = JSON.stringify({
      format: FORMAT,
      network: JSON.parse(formatNetwork(network)) as unknown,
      services: services.map(slimService),
      peers: peers.map(slimPeer),
    })
    if (text === this.#text) return
    mkdirSync(dirname(this.#path), { recursive: true })
    writeFileSync(`${this.#path}.new`, text, { mode: 0o600 })
    renameSync(`${this.#path}.new`, this.#path)
    this.#text = text
  }
}

// what wantedOf reads, and nothing that changes without a meaning for us
function slimService({ apiVersion, kind, metadata, spec, status }: IprefService): IprefService {
  const { name, namespace, labels } = metadata
  return {
    apiVersion,
    kind,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), ...(labels ? { labels } : {}) },
    spec: { target: spec.target },
    status: { observedGeneration: -1, ...(status?.mappings ? { mappings: status.mappings } : {}) },
  }
}

function slimPeer({ apiVersion, kind, metadata, spec, status }: IprefPeer): IprefPeer {
  const { addresses, hosts, gateway, conditions } = status ?? {}
  const accepted = conditions?.filter(condition => condition.type === 'Accepted')
  return {
    apiVersion,
    kind,
    metadata: { name: metadata.name },
    spec,
    status: {
      observedGeneration: -1,
      ...(accepted ? { conditions: accepted } : {}),
      ...(addresses ? { addresses } : {}),
      ...(hosts ? { hosts } : {}),
      ...(gateway === undefined ? {} : { gateway }),
    },
  }
}
