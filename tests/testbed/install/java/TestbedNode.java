import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.cassandra.service.CassandraDaemon;
import org.apache.cassandra.service.StorageService;

/**
 * Runs Cassandra with a small part of the Management API in the same process, as cass-management-api's agent does:
 * the snapshot routes that Medusa uses, and the probes. A stand-in; it answers as the real one does in what it answers.
 *
 * <p>System property {@code testbed.management.address} is the address to listen on.
 */
public final class TestbedNode {
    private static final int PORT = 8080;
    private static final Pattern SNAPSHOT_NAME = Pattern.compile("\"snapshot_name\"\\s*:\\s*\"([^\"\\\\]+)\"");
    private static final Pattern SNAPSHOT_NAMES = Pattern.compile("(?:^|&)snapshotNames=([^&]+)");

    public static void main(String[] args) throws IOException {
        String address = System.getProperty("testbed.management.address");
        HttpServer server = HttpServer.create(new InetSocketAddress(address, PORT), 0);
        server.createContext("/api/v0/ops/node/snapshots", exchange -> answer(exchange, TestbedNode::snapshots));
        server.createContext("/api/v0/probes/liveness", exchange -> answer(exchange, any -> "OK"));
        server.createContext("/api/v0/probes/readiness", exchange -> answer(exchange, TestbedNode::readiness));
        server.setExecutor(Executors.newFixedThreadPool(2, work -> {
            Thread thread = new Thread(work, "management-api");
            thread.setDaemon(true);
            return thread;
        }));
        server.start();
        CassandraDaemon.main(args);
    }

    private interface Operation {
        String run(HttpExchange exchange) throws Exception;
    }

    private static void answer(HttpExchange exchange, Operation operation) throws IOException {
        int status = 200;
        String body;
        try {
            body = operation.run(exchange);
        } catch (Exception e) {
            status = 500;
            body = String.valueOf(e.getMessage());
        }
        byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    private static String snapshots(HttpExchange exchange) throws Exception {
        switch (exchange.getRequestMethod()) {
            case "POST":
                String json = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
                StorageService.instance.takeSnapshot(find(SNAPSHOT_NAME, json), Collections.emptyMap());
                return "OK";
            case "DELETE":
                String query = String.valueOf(exchange.getRequestURI().getRawQuery());
                String tag = URLDecoder.decode(find(SNAPSHOT_NAMES, query), StandardCharsets.UTF_8);
                StorageService.instance.clearSnapshot(Collections.emptyMap(), tag);
                return "OK";
            default:
                throw new IllegalArgumentException("method not supported: " + exchange.getRequestMethod());
        }
    }

    private static String readiness(HttpExchange exchange) {
        if (!StorageService.instance.isNativeTransportRunning()) {
            throw new IllegalStateException("native transport is not running");
        }
        return "OK";
    }

    private static String find(Pattern pattern, String text) {
        Matcher matcher = pattern.matcher(text);
        if (!matcher.find()) {
            throw new IllegalArgumentException("no snapshot name in: " + text);
        }
        return matcher.group(1);
    }

    private TestbedNode() {}
}
