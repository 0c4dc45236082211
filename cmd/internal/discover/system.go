package discover

import (
	"net"
	"slices"
	"time"
)

// systemWatch looks at this machine.
func systemWatch() watch {
	return watch{addrs: systemAddrs, wall: func() time.Time { return time.Now().Round(0) }}
}

// systemAddrs returns the addresses of this machine, sorted, without those of loopback and link-local, which say nothing of a way out.
func systemAddrs() ([]string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	slices.Sort(out)
	return out, nil
}
