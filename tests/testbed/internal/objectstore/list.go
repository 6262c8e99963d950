package objectstore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Object is an object of a bucket.
type Object struct {
	Key          string    `json:"key" xml:"Key"`
	Size         int64     `json:"size" xml:"Size"`
	LastModified time.Time `json:"lastModified" xml:"LastModified"`
}

// Location is a bucket and how to reach it.
type Location struct{ Endpoint, Bucket, AccessKey, SecretKey string }

type listing struct {
	Contents []Object `xml:"Contents"`
	More     bool     `xml:"IsTruncated"`
	Next     string   `xml:"NextContinuationToken"`
}

// List lists all objects whose key starts with prefix.
func List(ctx context.Context, location Location, prefix string) ([]Object, error) {
	var objects []Object
	query := url.Values{"list-type": {"2"}, "prefix": {prefix}}
	for {
		page, err := listPage(ctx, location, query)
		if err != nil {
			return nil, err
		}
		objects = append(objects, page.Contents...)
		if !page.More {
			return objects, nil
		}
		query.Set("continuation-token", page.Next)
	}
}

func listPage(ctx context.Context, location Location, query url.Values) (page listing, err error) {
	address := fmt.Sprintf("%s/%s?%s", location.Endpoint, location.Bucket, encode(query))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return page, err
	}
	sign(request, location.AccessKey, location.SecretKey, time.Now().UTC())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return page, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return page, err
	}
	if response.StatusCode != http.StatusOK {
		return page, fmt.Errorf("list %s: %s: %s", location.Bucket, response.Status, body)
	}
	return page, xml.Unmarshal(body, &page)
}

// encode writes a query as AWS canonicalises it: sorted, and with %20 for a space.
func encode(query url.Values) string { return strings.ReplaceAll(query.Encode(), "+", "%20") }

const region = "us-east-1"

// sign signs a request without a body by AWS Signature Version 4.
func sign(request *http.Request, accessKey, secretKey string, at time.Time) {
	const signedHeaders = "host;x-amz-content-sha256;x-amz-date"
	stamp, day := at.Format("20060102T150405Z"), at.Format("20060102")
	empty := sum("")
	request.Header.Set("X-Amz-Date", stamp)
	request.Header.Set("X-Amz-Content-Sha256", empty)
	canonical := strings.Join([]string{
		request.Method, request.URL.EscapedPath(), encode(request.URL.Query()),
		"host:" + request.URL.Host, "x-amz-content-sha256:" + empty, "x-amz-date:" + stamp, "", signedHeaders, empty,
	}, "\n")
	scope := strings.Join([]string{day, region, "s3", "aws4_request"}, "/")
	key := []byte("AWS4" + secretKey)
	for _, part := range []string{day, region, "s3", "aws4_request"} {
		key = mac(key, part)
	}
	signature := mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, sum(canonical)}, "\n"))
	request.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		accessKey, scope, signedHeaders, hex.EncodeToString(signature)))
}

func sum(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:])
}

func mac(key []byte, text string) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(text))
	return hash.Sum(nil)
}
