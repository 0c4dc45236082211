package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"bittern/piece/metainfo"
)

// maxFetches is how many .torrent files are fetched at once.
const maxFetches = 4

// fetchTorrents gets the .torrent files that a magnet link names (xs, as) until ctx ends, and hands over the first
// that is the right one.
func (y *meeting) fetchTorrents(ctx context.Context, m *metainfo.Magnet, found chan<- []byte) {
	urls := make(chan string)
	var wg sync.WaitGroup
	for range min(maxFetches, len(m.Torrents)) {
		wg.Go(func() {
			for u := range urls {
				info, err := y.fetchTorrent(ctx, m, u)
				y.pages.Add(-1)
				if err != nil && ctx.Err() != nil {
					return // it was not needed any more
				}
				if err != nil {
					y.log.Warn("the magnet link's .torrent is of no use", "url", withoutSecrets(u), "error", err)
					continue
				}
				select {
				case found <- info:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for _, u := range m.Torrents {
		select {
		case urls <- u:
		case <-ctx.Done():
		}
	}
	close(urls)
	wg.Wait()
}

// fetchTorrent returns the info dictionary of the .torrent at a URL that a magnet link names. Whoever wrote the link
// has no business with this machine and its network: there, only what is called a .torrent is asked for.
func (y *meeting) fetchTorrent(ctx context.Context, m *metainfo.Magnet, link string) ([]byte, error) {
	u, err := url.Parse(link)
	if err != nil {
		return nil, bareURLError(err)
	}
	if u.User != nil {
		return nil, errors.New("a magnet link has no passwords to give")
	}
	guard := hopGuard{onlyPublic: !strings.HasSuffix(strings.ToLower(u.Path), ".torrent")}
	data, err := fetch(ctx, y.policy, link, &guard)
	if err != nil {
		return nil, err
	}
	t, err := metainfo.Parse(data)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "metainfo: "))
	}
	if t.InfoHash != m.InfoHash {
		return nil, fmt.Errorf("it is another torrent, %x", t.InfoHash)
	}
	return t.Info, nil
}
