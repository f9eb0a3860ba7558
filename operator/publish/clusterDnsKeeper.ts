/**
 * Keeps our block in the cluster's DNS while we lead, and looks whether a pod would resolve a name of ours (clusterDns.ts). What is wrong is said once, when it
 * changes.
 */
import type { Message } from '../../dns/message.ts'
import type { Name } from '../../dns/name.ts'
import type { ResourceStore } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Cluster } from '../cluster.ts'
import { dnsServerOf, domainsOf, keepBlock, linesToAdd, type ProbeResult, probe, restore } from './clusterDns.ts'
import type { Server } from './endpoints.ts'
import type { RecordSet } from './records.ts'

export interface KeeperPorts {
  store: ResourceStore
  cluster: Cluster
  clock: Clock
  log: Logger
  random(): number
  ask(server: Server, question: { name: Name; type: number }): Promise<Message | undefined>
  /** one that is published in the internal zone, if there is any */
  published(): RecordSet | undefined
}

export interface ClusterDnsReport {
  problems: string[]
  /** absent: nothing to ask for, or nobody to ask */
  probe?: ProbeResult
  /** what a person is to add; absent where it is kept, or found to work */
  toAdd?: { where: string; lines: string }
}

const LOOK_MS = 60_000
const SETTLE_MS = 500

export class ClusterDnsKeeper {
  readonly #ports: KeeperPorts
  #cancel: (() => void) | undefined
  #running: Promise<void> | undefined
  #isStopped = true
  #kept: { namespace: string; configMap: string } | undefined
  #told = ''
  report: ClusterDnsReport = { problems: [] }

  constructor(ports: KeeperPorts) {
    this.#ports = ports
  }

  start(): void {
    this.#isStopped = false
    this.changed()
  }

  /** Domains or settings are others now, perhaps. */
  changed(): void {
    if (!this.#isStopped) this.#later(SETTLE_MS)
  }

  #later(ms: number): void {
    this.#cancel?.()
    this.#cancel = this.#ports.clock.after(ms, () => {
      this.#running = this.#look()
    })
  }

  async #look(): Promise<void> {
    const { log, random } = this.#ports
    try {
      await this.#step()
    } catch (error) {
      this.report = { ...this.report, problems: [(error as Error).message] }
    }
    const said = JSON.stringify([this.report.problems, this.report.probe?.resolves])
    if (said !== this.#told) {
      this.#told = said
      const { problems, probe: probed } = this.report
      if (problems.length > 0 || probed?.resolves === false)
        log.warn(
          { component: 'cluster-dns', problems, probe: probed?.detail },
          "the cluster's DNS does not lead to the resolvers",
        )
      else if (probed) log.info({ component: 'cluster-dns', probe: probed.detail }, 'pods resolve')
    }
    if (!this.#isStopped) this.#later(LOOK_MS * (0.75 + random() / 2))
  }

  async #step(): Promise<void> {
    const { store, cluster, ask, published } = this.#ports
    const { config } = cluster
    const domains = domainsOf(
      config,
      cluster
        .peers()
        .flatMap(({ spec, metadata }) => (metadata.deletionTimestamp === undefined ? (spec.domains ?? []) : [])),
    )
    const { manage, namespace, configMap } = config.clusterDns
    const left = this.#kept
    const isSame = left?.namespace === namespace && left.configMap === configMap
    if (left && !(manage && isSame)) await restore(store, left)
    this.#kept = manage ? { namespace, configMap } : undefined
    const { problems } = await keepBlock(store, config, domains)
    const server = dnsServerOf((space, name) => cluster.service(space, name))
    const known = published()
    const probed = server && known ? await probe(server, known, ask) : undefined
    const isNeeded = !manage && config.clusterDns.resolver !== undefined && probed?.resolves !== true
    this.report = {
      problems,
      ...(probed ? { probe: probed } : {}),
      ...(isNeeded ? { toAdd: linesToAdd(config, domains) } : {}),
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancel?.()
    await this.#running
  }
}
