import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.OutputStream;
import org.archive.extract.ExtractingResourceFactoryMapper;
import org.archive.extract.ExtractingResourceProducer;
import org.archive.extract.ProducerUtils;
import org.archive.extract.WATExtractorOutput;
import org.archive.resource.Resource;

/** The WAT of a WARC, by webarchive-commons, which Common Crawl's own tool is a fork of. */
public class WriteWat {
    public static void main(String[] paths) throws Exception {
        try (OutputStream sink = new BufferedOutputStream(new FileOutputStream(paths[1]))) {
            WATExtractorOutput output = new WATExtractorOutput(sink, "pages.wat.gz");
            ExtractingResourceProducer records = new ExtractingResourceProducer(
                ProducerUtils.getProducer(paths[0]), new ExtractingResourceFactoryMapper());
            for (Resource one = records.getNext(); one != null; one = records.getNext()) {
                output.output(one);
            }
        }
    }
}
