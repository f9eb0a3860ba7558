/**
 * Rules as kube-proxy and a CNI make them for Services with one pod each: a ClusterIP is translated to the pod; what does not come from a pod is marked,
 * and masqueraded on the way out; pods are masqueraded when they leave the pod network. With nftables, and with both kinds of iptables.
 */
const PODS = '10.244.0.0/16'
const MARK = '0x4000'

export interface ProxyRules {
  name: string
  /** lines of a shell script */
  install: string[]
  remove: string[]
}

export interface ProxiedService {
  clusterIp: string
  podAddress: string
}

export function proxyRules(services: readonly ProxiedService[], port: number): ProxyRules[] {
  return [
    nftables(services, port),
    iptables('iptables-nft', services, port),
    iptables('iptables-legacy', services, port),
  ]
}

function nftables(services: readonly ProxiedService[], port: number): ProxyRules {
  const rules = services.flatMap(({ clusterIp, podAddress }) => [
    `ip daddr ${clusterIp} tcp dport ${port} ip saddr != ${PODS} meta mark set meta mark or ${MARK}`,
    `ip daddr ${clusterIp} tcp dport ${port} dnat to ${podAddress}:${port}`,
  ])
  const table = `table ip kube-proxy {
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain services {
    ${rules.join('\n    ')}
  }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & ${MARK} != 0 masquerade fully-random
    ip saddr ${PODS} ip daddr != ${PODS} masquerade
  }
}`
  return {
    name: 'nftables',
    install: [`nft -f - <<'END'\n${table}\nEND`],
    remove: ['nft delete table ip kube-proxy'],
  }
}

function iptables(program: string, services: readonly ProxiedService[], port: number): ProxyRules {
  const nat = `${program} -w -t nat`
  const rules = services.flatMap(({ clusterIp, podAddress }) => [
    `${nat} -A KUBE-SERVICES -d ${clusterIp}/32 -p tcp --dport ${port} ! -s ${PODS} -j MARK --or-mark ${MARK}`,
    `${nat} -A KUBE-SERVICES -d ${clusterIp}/32 -p tcp --dport ${port} -j DNAT --to-destination ${podAddress}:${port}`,
  ])
  return {
    name: program,
    install: [
      `${nat} -N KUBE-SERVICES`,
      `${nat} -N KUBE-POSTROUTING`,
      `${nat} -A PREROUTING -j KUBE-SERVICES`,
      `${nat} -A OUTPUT -j KUBE-SERVICES`,
      `${nat} -A POSTROUTING -j KUBE-POSTROUTING`,
      ...rules,
      `${nat} -A KUBE-POSTROUTING -m mark --mark ${MARK}/${MARK} -j MASQUERADE --random-fully`,
      `${nat} -A POSTROUTING -s ${PODS} ! -d ${PODS} -j MASQUERADE`,
    ],
    remove: [`${nat} -F`, `${nat} -X`, ...(program === 'iptables-nft' ? ['nft delete table ip nat'] : [])],
  }
}
