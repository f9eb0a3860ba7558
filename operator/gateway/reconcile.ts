/**
 * The gateway controller: one IprefGateway for each node that matches, and one object that tells all gateways of each other.
 *
 *   nodes, gateways, settings ──► plan ──► IprefGateways made, completed, released, let go ──► ConfigMap ipref-network, on change alone
 *
 * One key, for slices are cut for all at once.
 */
import { isDeepStrictEqual } from 'node:util'
import { hostPrefix } from '../../ipref/address.ts'
import type { ConfigMap } from '../../resources/kinds.ts'
import { formatNetwork, NETWORK_KEY, NETWORK_NAME, type Network } from '../../resources/network.ts'
import { type ResourceStore, StoreError } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Cluster } from '../cluster.ts'
import type { Events } from '../events.ts'
import { clusterNetworks } from '../surroundings.ts'
import { type GatewayChange, type GatewayPlan, planGateways } from './plan.ts'

const RELEASE_LOOK_MS = 2000

export interface GatewayPorts {
  store: ResourceStore
  cluster: Cluster
  /** of the operator: where ipref-network is */
  namespace: string
  /** where the operator serves the zones */
  zoneServers(): readonly string[]
  tunnelFamilies: readonly (4 | 6)[]
  /** Does a gateway of this name renew its Lease? */
  isAlive(name: string): boolean
  events: Events
  clock: Clock
  log: Logger
}

export class GatewayController {
  readonly #ports: GatewayPorts
  readonly #missingSince = new Map<string, number>()
  /** gateways that are being deleted: since when, by our clock */
  readonly #releasingSince = new Map<string, number>()
  #written: { plan: Network } | undefined
  #problem: string | undefined

  constructor(ports: GatewayPorts) {
    this.#ports = ports
  }

  /** What all gateways were told last; undefined: nothing yet. */
  get network(): Network | undefined {
    return this.#written?.plan
  }

  /** An overlap that keeps gateways from working. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** What is written there now, by whomever. True: it is not what we wrote last. */
  seen(written: ConfigMap | undefined): boolean {
    if (!this.#written || written?.data?.[NETWORK_KEY] === formatNetwork(this.#written.plan)) return false
    this.#written = undefined
    return true
  }

  readonly reconcile = async (): Promise<{ againMs?: number } | undefined> => {
    const plan = this.#plan()
    const failures: unknown[] = []
    // one that is refused keeps no other: while the kind itself is being deleted none can be made, and those that are there must be let go
    for (const change of plan.changes) await this.#apply(change).catch(error => failures.push(error))
    this.#tell(plan.network)
    if (failures.length > 0) throw failures[0]
    await this.#write(plan.network)
    // a node that is missing is looked at again when its time is over; a gateway that is being deleted, soon
    const waits = [
      ...(this.#missingSince.size > 0 ? [this.#untilRelease()] : []),
      ...(this.#releasingSince.size > 0 ? [RELEASE_LOOK_MS] : []),
    ]
    return waits.length === 0 ? undefined : { againMs: Math.min(...waits) }
  }

  #plan(): GatewayPlan {
    const { cluster, clock } = this.#ports
    const now = clock.now()
    const nodes = cluster.nodes()
    const gateways = cluster.gateways()
    const names = new Set(nodes.map(node => node.metadata.name))
    const missing = gateways
      .map(gateway => gateway.spec.nodeName)
      .filter(name => name !== undefined && !names.has(name))
    note(this.#missingSince, missing as string[], now)
    note(
      this.#releasingSince,
      gateways.filter(({ metadata }) => metadata.deletionTimestamp !== undefined).map(({ metadata }) => metadata.name),
      now,
    )
    return planGateways({
      config: cluster.config,
      nodes,
      gateways,
      missingSince: this.#missingSince,
      releasingSince: this.#releasingSince,
      isAlive: name => this.#ports.isAlive(name),
      inUse: this.#inUse(),
      serviceNetworks: [...cluster.view('ServiceCIDR').all()].flatMap(({ spec }) => spec?.cidrs ?? []),
      zoneServers: this.#ports.zoneServers(),
      tunnelFamilies: this.#ports.tunnelFamilies,
      now,
    })
  }

  // podCIDRs lie under several CNIs, so addresses of running pods count too (decisions.md 32)
  #inUse(): { what: string; network: string }[] {
    const { cluster } = this.#ports
    const inUse = clusterNetworks(cluster).map(network => ({ what: 'a network of the cluster', network }))
    const add = (text: string | undefined, what: string) => {
      if (text) inUse.push({ what, network: hostPrefix(text) })
    }
    for (const { metadata, status } of cluster.nodes())
      for (const { address, type } of status?.addresses ?? [])
        if (type.endsWith('IP')) add(address, `the address of node ${metadata.name}`)
    for (const { metadata, status } of cluster.view('Pod').all()) {
      if (status?.phase !== 'Running') continue
      for (const { ip } of status.podIPs ?? []) add(ip, `the address of pod ${metadata.namespace}/${metadata.name}`)
    }
    return inUse
  }

  #untilRelease(): number {
    const { cluster, clock } = this.#ports
    const first = Math.min(...this.#missingSince.values())
    return Math.max(1000, first + cluster.config.nodeReleaseTimeMs - clock.now())
  }

  async #apply(change: GatewayChange): Promise<void> {
    const { store, log } = this.#ports
    const { object } = change
    const fields = { component: 'gateways', gateway: object.metadata.name }
    if (change.do === 'make') {
      await store.create('IprefGateway', object).catch(ignoreExisting)
      log.info({ ...fields, slices: object.spec.slices }, 'gateway made')
    } else if (change.do === 'complete') {
      await store.update('IprefGateway', object)
      log.info({ ...fields, slices: object.spec.slices }, 'gateway completed')
    } else if (change.do === 'forget') {
      await store.update('IprefGateway', object)
      log.info({ ...fields, why: change.why }, 'gateway gone')
    } else {
      const { name, uid } = object.metadata
      await store.delete('IprefGateway', { name }, uid === undefined ? {} : { uid })
      log.info({ ...fields, why: change.why }, 'gateway released')
    }
  }

  #tell(network: Network): void {
    const { log, events, cluster } = this.#ports
    const message = network.problem?.message
    if (message !== undefined && message !== this.#problem) {
      log.error({ component: 'gateways' }, message)
      for (const gateway of cluster.gateways()) events.say(gateway, 'Warning', network.problem!.reason, message)
    }
    this.#problem = message
    for (const { name, problem } of network.gateways) {
      const known = this.#written?.plan.gateways.find(gateway => gateway.name === name)?.problem
      if (!problem || isDeepStrictEqual(problem, known)) continue
      log.warn({ component: 'gateways', gateway: name, reason: problem.reason }, problem.message)
      const object = cluster.view('IprefGateway').get({ name })
      if (object) events.say(object, 'Warning', problem.reason, problem.message)
    }
  }

  async #write(network: Network): Promise<void> {
    if (this.#written && isDeepStrictEqual(this.#written.plan, network)) return
    const { store, namespace } = this.#ports
    const key = { namespace, name: NETWORK_NAME }
    const text = formatNetwork(network)
    const known = await store.get('ConfigMap', key)
    if (known?.data?.[NETWORK_KEY] !== text) {
      const object: ConfigMap = {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { ...known?.metadata, ...key },
        data: { [NETWORK_KEY]: text },
      }
      await (known ? store.update('ConfigMap', object) : store.create('ConfigMap', object))
    }
    this.#written = { plan: network }
  }
}

/** Since when each of these names is what it is. */
function note(since: Map<string, number>, names: readonly string[], now: number): void {
  for (const name of since.keys()) if (!names.includes(name)) since.delete(name)
  for (const name of names) if (!since.has(name)) since.set(name, now)
}

function ignoreExisting(error: unknown): void {
  if (!(error instanceof StoreError && error.code === 'AlreadyExists')) throw error
}
