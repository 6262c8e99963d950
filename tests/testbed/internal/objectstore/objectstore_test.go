package objectstore

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The example of AWS's documentation of Signature Version 4, "GET Bucket (List Objects)".
func TestSignatureIsAWSVersion4(t *testing.T) {
	request, err := http.NewRequest(http.MethodGet, "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", nil)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	sign(request, "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", at)
	const want = "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
	if got := request.Header.Get("Authorization"); !strings.HasSuffix(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestListFollowsPages(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("continuation-token") == "" {
			fmt.Fprint(w, `<R><Contents><Key>a</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated>`+
				`<NextContinuationToken>next page</NextContinuationToken></R>`)
			return
		}
		fmt.Fprint(w, `<R><Contents><Key>b</Key><Size>2</Size></Contents></R>`)
	}))
	defer server.Close()
	objects, err := List(context.Background(), Location{Endpoint: server.URL, Bucket: "bucket"}, "")
	if err != nil || len(objects) != 2 || objects[0].Key != "a" || objects[1].Size != 2 {
		t.Errorf("%v, %v", objects, err)
	}
}

func TestSummaryAddsUpBelowThreeElements(t *testing.T) {
	got := Summary([]Object{
		{Key: "shop/node-0/b1/meta/schema.cql", Size: 10},
		{Key: "shop/node-0/b1/meta/manifest.json", Size: 2038},
		{Key: "shop/index/b1", Size: 3},
	})
	want := "PATH              OBJECTS   SIZE\nshop/index/       1         3 B\nshop/node-0/b1/   2         2.0 KiB\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
